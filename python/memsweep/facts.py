"""Numbers the blocks of memory behind tensors and arrays, each once however many share it."""

from __future__ import annotations

from collections.abc import Iterable

from memsweep import torch_host


class Storages:
    """Storage facts for one inventory. Keeps addresses and sizes, never objects."""

    def __init__(self) -> None:
        self.facts: list[dict[str, object]] = []
        self._numbers: dict[tuple[str, int], int] = {}

    @staticmethod
    def types() -> tuple[type, ...]:
        """The types whose instances own memory: what to ask the heap walk for."""
        return torch_host.memory_types()

    def numbers(self, objects: Iterable[object]) -> list[int]:
        """The storages behind these objects, as indices into `facts`, sorted."""
        found = set()
        for value in objects:
            block = torch_host.block_of(value)
            if block is not None:
                found.add(self._number(*block))
        return sorted(found)

    def places(self, numbers: Iterable[int]) -> set[tuple[str, int]]:
        """Device and address of these storages. They are valid while their owners are held."""
        wanted = set(numbers)
        return {place for place, number in self._numbers.items() if number in wanted}

    def addresses(self, numbers: Iterable[int]) -> set[int]:
        """The addresses of those that lie in RAM."""
        return {address for device, address in self.places(numbers) if device == "cpu"}

    def _number(self, device: str, address: int, size: int) -> int:
        key = (device, address)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self.facts)
            self.facts.append({"bytes": size, "device": device})
        return number
