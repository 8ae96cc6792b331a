"""Why another program is faster than ours in a row, in words for the page. A text is shown only when it is faster; where one is
needed and is not here, the page says so and a test fails.

Rows are named as in `Row.name`, the others as in `Case.name`.
"""

WHY: dict[str, dict[str, str]] = {}
