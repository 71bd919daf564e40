"""The page: what a store, a repository or a storage holds, over HTTP, for people and consoles.

Everything is read and nothing is written. A request names an application, a version and a path in
its query, since all three may hold any character; nothing but what the place lists is ever opened.

Flow: `guard` looks at a request's host, method and token. `application` finds the view, and runs
its work in a thread that ends with the connection (`limits`). A view of `views` asks the place
(`places`) and the version (`trees`, `texts`) and returns an object, which is sent as JSON or, by
`pages`, filled into a template. `report` writes the same templates to one file.

Files, in reading order:
    places         what is served: a store, a repository, one version, a storage
    finding        which of these a word of the user means
    opened         versions that were opened last, with sums over their indexes
    trees          directories of a version, its archives, and where its bytes went
    texts          what changed between two versions, and files as text, within bounds
    views          one function for each page; its result is the JSON
    parameters     what a query may say, for parsing and for the OpenAPI document
    openapi        that document
    drawing        plots and treemaps as numbers that templates draw
    pages          objects to HTML
    limits         how long, and how many at once
    guard          who may ask: host names, tokens, headers of every answer
    metrics        counters for Prometheus
    raw            the bytes of a file, also in ranges
    application    routes and errors
    running        the server and its sockets
    report         one page in one file

Invariants: a request's work is bounded by what fits on a page, in time, and by its connection.
Bytes of a version are never sent in a way that a browser would run. Templates escape everything;
no page has a script or style of its own, or asks another host.

May import everything but `cli`. Starlette, uvicorn and prometheus_client are the extra ``serve``;
only `guard`, `raw`, `metrics`, `application` and `running` load them, so that `report` needs Jinja2
alone.
"""
