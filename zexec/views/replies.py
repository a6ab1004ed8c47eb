"""ExecuteReply: what comes of a string of code on one engine."""

from __future__ import annotations

from typing import Any


def result_of(facts: dict[str, Any]) -> dict[str, Any] | None:
    """The value of a last expression as it was displayed, by MIME type, or None."""
    result = facts.get("result")
    return None if result is None else {"execution_count": facts.get("number"), **result}


class ExecuteReply:
    """What ``view.execute`` gives for one engine. Notebooks show the value of its last expression.

    Attributes:
        msg_id: the task's id.
        engine_id: the engine's number.
        execution_count: number of this piece of code among those that the engine has run.
        execute_result: the value of a last expression, ``{"data": {MIME type: ...}, "metadata": {...}}``, or None.
        outputs: what the code displayed, a list of such.
        stdout, stderr: what it printed.
    """

    def __init__(self, msg_id: str, engine_id: int, facts: dict[str, Any]) -> None:
        self.msg_id = msg_id
        self.engine_id = engine_id
        self.execution_count: int | None = facts.get("number")
        self.execute_result = result_of(facts)
        self.outputs: list[dict[str, Any]] = list(facts.get("displays", ()))
        self.stdout: str = facts.get("stdout", "")
        self.stderr: str = facts.get("stderr", "")

    @property
    def pyout(self) -> str | None:
        """The value of a last expression as text, or None."""
        if self.execute_result is None:
            return None
        text: str | None = self.execute_result["data"].get("text/plain")
        return text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ExecuteReply) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        text = self.pyout or ""
        return f"<ExecuteReply[{self.execution_count}]: {text if len(text) <= 32 else text[:29] + '...'}>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        text = self.pyout
        if text is None:
            return
        if "\n" in text:
            text = "\n" + text
        printer.text(f"Out[{self.engine_id}:{self.execution_count}]: {text}")

    def _rich(self, kind: str) -> Any:
        if self.execute_result is None or kind not in self.execute_result["data"]:
            return None
        data, metadata = self.execute_result["data"][kind], self.execute_result["metadata"].get(kind)
        return (data, metadata) if metadata else data

    def _repr_html_(self) -> Any:
        return self._rich("text/html")

    def _repr_markdown_(self) -> Any:
        return self._rich("text/markdown")

    def _repr_latex_(self) -> Any:
        return self._rich("text/latex")

    def _repr_json_(self) -> Any:
        return self._rich("application/json")

    def _repr_javascript_(self) -> Any:
        return self._rich("application/javascript")

    def _repr_svg_(self) -> Any:
        return self._rich("image/svg+xml")

    def _repr_png_(self) -> Any:
        return self._rich("image/png")

    def _repr_jpeg_(self) -> Any:
        return self._rich("image/jpeg")


__all__ = ["ExecuteReply", "result_of"]
