# make demo    build the demo guest and its disk if needed, and boot Debian from it to a login
# make test    all tests, real guests included
# make lint    ruff, mypy, import-linter
# make bench   measure, side by side with QEMU
GUEST := .cache/guest
BIN := .venv/bin

.PHONY: setup demo test lint bench clean

setup:
	@tools/setup test

demo:
	@tools/setup demo
	@$(BIN)/ringminus guest build $(GUEST) --rootfs $(GUEST)/root.vhdx
	@tools/demo $(GUEST)

test:
	@tools/setup test
	@tools/test

lint:
	@tools/setup test
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench:
	@tools/setup bench
	@$(BIN)/python bench/exits.py
	@$(BIN)/python bench/rings.py
	@$(BIN)/python bench/storage.py
	@$(BIN)/python bench/disks.py
	@$(BIN)/python bench/disk_guest.py
	@$(BIN)/python bench/network.py
	@$(BIN)/python bench/lens.py
	@$(BIN)/python bench/run.py $(BENCH)

clean:
	rm -rf .cache build src/ringminus.egg-info
