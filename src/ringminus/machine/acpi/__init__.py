"""The ACPI tables that tell a guest what its machine has."""
