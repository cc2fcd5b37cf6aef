"""The report: what was found (findings), drawn (figures, charts) and put on a page.

Altair is imported by `charts` only, jinja2 by `page` only.
"""
