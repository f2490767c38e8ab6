"""Which cell of a notebook runs now.

Source: the `execute_request` of the Jupyter messaging protocol, and JupyterLab's `cellId` in its metadata.
"""

import sys
from dataclasses import dataclass
from threading import current_thread, main_thread
from typing import Any


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of a cell: `name` stays from run to run."""

    name: str
    run: str

    def reruns(self, other: "Cell | None") -> bool:
        """True when `other` was an earlier run of the same cell."""
        return other is not None and other.name == self.name and other.run != self.run


def running_cell() -> Cell | None:
    """The cell that this thread runs; None outside of a kernel."""
    kernel: Any = sys.modules.get("ipykernel.zmqshell")
    if kernel is None or current_thread() is not main_thread():
        return None
    shell: Any = kernel.ZMQInteractiveShell
    if not shell.initialized():
        return None
    try:
        asked = shell.instance().get_parent()
        # Frontends that do not name their cells are known by what stands in them.
        name = asked.get("metadata", {}).get("cellId") or asked["content"]["code"]
        return Cell(str(name), str(asked["header"]["msg_id"]))
    except (AttributeError, KeyError, LookupError):
        return None
