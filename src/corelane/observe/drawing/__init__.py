"""Drawing: sections as inline SVG and HTML fragments for `report.py`. Colours come from the page's style."""
