"""The workbench: a Streamlit app for whoever makes models, on the own machine. ``app.py`` is what Streamlit runs; ``launch`` starts it.

The pages are in ``views/``, one file each (Streamlit would serve a folder ``pages/`` its own way), and hold no logic that could stand
without Streamlit: that is in the modules beside them.
"""
