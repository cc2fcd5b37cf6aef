"""Watch: a page of this machine that shows a sweep while it runs, from the store alone.

May import `report` and every room below it. Owner of starlette and uvicorn. It reads the store and
writes nothing.
"""
