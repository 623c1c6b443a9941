"""What GPUs are said to do: dense fp16 on tensor cores, and memory. From NVIDIA's data sheets.

Their headline rates are "with sparsity", twice these.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rates:
    """Per second.

    Attributes:
        macs: multiplications with addition, fp16 in, dense: half of the operations.
        bytes: of the device's memory.
        source: where that is from.
    """

    macs: float
    bytes: float
    source: str


# By words that must all be in the driver's name for it; the first that suits is taken.
SHEETS: tuple[tuple[tuple[str, ...], Rates], ...] = (
    (("A100", "PCI", "80GB"), Rates(312e12 / 2, 1.935e12, "NVIDIA A100 data sheet, PCIe 80 GB")),
    (("A100", "PCI"), Rates(312e12 / 2, 1.555e12, "NVIDIA A100 data sheet, PCIe 40 GB")),
    (("A100", "80GB"), Rates(312e12 / 2, 2.039e12, "NVIDIA A100 data sheet, SXM 80 GB")),
    (("A100",), Rates(312e12 / 2, 1.555e12, "NVIDIA A100 data sheet, SXM 40 GB")),
    (("H100", "NVL"), Rates(835e12 / 2, 3.9e12, "NVIDIA H100 data sheet, NVL")),
    (("H100", "PCI"), Rates(756e12 / 2, 2.0e12, "NVIDIA H100 data sheet, PCIe")),
    (("H100",), Rates(989e12 / 2, 3.35e12, "NVIDIA H100 data sheet, SXM")),
    (("GH200",), Rates(990e12 / 2, 4.0e12, "NVIDIA GH200 data sheet, 96 GB")),
    (("H200", "NVL"), Rates(835e12 / 2, 4.8e12, "NVIDIA H200 data sheet, NVL")),
    (("H200",), Rates(989e12 / 2, 4.8e12, "NVIDIA H200 data sheet, SXM")),
    (("GB200",), Rates(2500e12 / 2, 8.0e12, "NVIDIA GB200 NVL72 page, per GPU")),
    (("B200",), Rates(2250e12 / 2, 8.0e12, "NVIDIA DGX B200 data sheet, per GPU")),
)


def data_sheet(name: str) -> Rates | None:
    """Of a GPU by the driver's name for it; None for one that is not listed."""
    words = name.upper()
    return next((r for need, r in SHEETS if all(one in words for one in need)), None)


def file_name(name: str) -> str:
    """A GPU's name as part of a file's: ``NVIDIA H100 80GB HBM3`` → ``h100-80gb-hbm3``."""
    kept = "".join(c if c.isalnum() else "-" for c in name.lower())
    return "-".join(part for part in kept.split("-") if part and part != "nvidia") or "gpu"
