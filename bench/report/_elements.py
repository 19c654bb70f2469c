"""Elements of a page. Text and attributes are escaped where the tree is written, so no caller can forget to."""

from __future__ import annotations

from xml.etree.ElementTree import Element, tostring

Child = Element | str | None


def element(tag: str, *children: Child, **attributes: str | float | None) -> Element:
    """Attributes are named as in Python: `class_`, `data_tip`, `stroke_width`; one that is None is left out.

    Names that hold capitals (`viewBox`) stay as they are.
    """
    node = Element(tag, {_name(key): _text(value) for key, value in attributes.items() if value is not None})
    for child in children:
        add(node, child)
    return node


def add(parent: Element, *children: Child) -> Element:
    """Appends elements and text, leaving out None, and returns the parent."""
    for child in children:
        if isinstance(child, Element):
            parent.append(child)
        elif child is not None:
            if len(parent):
                parent[-1].tail = (parent[-1].tail or "") + child
            else:
                parent.text = (parent.text or "") + child
    return parent


def markup(node: Element) -> str:
    return tostring(node, encoding="unicode", method="html")


def _name(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
