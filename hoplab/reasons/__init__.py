"""Why a flow failed: from what was seen and what the kernel answered when asked, to a cause, a place and a next step.

`facts` is what is asked of the kernel once something failed, `questions` which routes,
`decide` the ranking; the causes themselves are found in `rules`, `answers`, `ends`,
`links` and `together`.  All of it is plain functions on plain data: `hoplab.watch` does the asking.
"""
