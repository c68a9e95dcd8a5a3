"""JupyterLab on Binder and for `make lab`: JUPYTER_CONFIG_PATH names this folder."""

c = get_config()  # noqa: F821

# the address that is printed, and the one that a browser opens
c.LabApp.default_url = "/lab/tree/notebooks/00_tour.ipynb"

# Binder has 2 GB, the eleven notebooks left open want 4: a kernel ends 20 minutes after its last
# cell or click. What was typed stays on the page, and each notebook runs again within a minute.
c.MappingKernelManager.cull_idle_timeout = 20 * 60
c.MappingKernelManager.cull_interval = 60
# the tab stays open
c.MappingKernelManager.cull_connected = True
c.MappingKernelManager.cull_busy = False
