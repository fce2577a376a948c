"""A run, or two, as one HTML file that needs nothing else: no network, no server, no other file.

`document` chooses what of a run the page holds, `writing` puts it into the template
together with the styles and scripts that lie beside them, `index` lists all runs.
"""
