"""Columns of text for a terminal or a pipe."""

from flanx.terminal import printable


class Table:
    """Rows for a terminal, or tab-separated lines where the output goes elsewhere."""

    def __init__(self, *columns: str) -> None:
        self._columns = columns
        self._rows: list[tuple[str, ...]] = []

    def add(self, *cells: str) -> None:
        self._rows.append(tuple(map(printable, cells)))

    def print(self) -> None:
        from rich.console import Console

        console = Console()
        if not console.is_terminal:
            for row in (self._columns, *self._rows):
                print("\t".join(row))
            return
        from rich.markup import escape
        from rich.table import Table

        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in self._columns:
            table.add_column(
                column, overflow="fold", justify="right" if column == "count" else "left"
            )
        for row in self._rows:
            table.add_row(*map(escape, row))
        console.print(table)
