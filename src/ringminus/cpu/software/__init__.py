"""The software processor: Unicorn's x86 target with its guest exits led to our hypervisor."""

# first of all: it loads our native module before anything can load libunicorn
from ringminus.cpu.software import library as library
