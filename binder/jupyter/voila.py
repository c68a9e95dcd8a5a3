"""The page of `make app`: JUPYTER_CONFIG_PATH names this folder; docs/hosting.md has the limits."""

import gc
import os

import nbformat
from tornado.web import HTTPError

c = get_config()  # noqa: F821

# all visitors share the machine, each has a kernel: 0.3 GB, 0.6 once CHGNet was asked
VISITORS = int(os.environ.get("VISITORS", 8))
# what a kernel may take before the system refuses or ends it: the explorer with every model
# loaded has 0.9 GB, and an hour of clicks wants about a minute of a processor
MEMORY = 1_500_000_000
PROCESSOR_SECONDS = 600

# run in the kernel before the page's own cells; a hard limit cannot be lifted from within
LIMITS = f"""
import os, resource
os.environ["OMP_NUM_THREADS"] = "1"
resource.setrlimit(resource.RLIMIT_DATA, ({MEMORY}, {MEMORY}))
resource.setrlimit(resource.RLIMIT_CPU, ({PROCESSOR_SECONDS}, {PROCESSOR_SECONDS}))
"""


def limited(request, notebook, cwd):
    """The notebook with the limits in front; nobody is let in where all seats are taken."""
    if len(request.kernel_manager.list_kernel_ids()) >= VISITORS:
        raise HTTPError(503, reason="All seats are taken, please come back in a few minutes")
    # what the last visitor left: Python itself would wait for some hundred more, at 7 MB each
    gc.collect()
    notebook.cells.insert(0, nbformat.v4.new_code_cell(LIMITS))
    return notebook


c.VoilaConfiguration.prelaunch_hook = limited
# a visitor chooses no other template, which might show more
c.VoilaConfiguration.allow_template_override = "NO"

# a page that is closed ends its kernel; one left open, or a browser that crashed, after ten minutes
c.MappingKernelManager.cull_idle_timeout = 10 * 60
c.MappingKernelManager.cull_interval = 60
c.MappingKernelManager.cull_connected = True
# the sockets of a page that says good-bye are not kept for its return: its kernel has ended
c.MappingKernelManager.buffer_offline_messages = False

# nothing is fetched from elsewhere (voila's template asks a CDN for icons that it has itself), and
# no message of a page is larger than that (a file comes in pieces)
c.Voila.tornado_settings = {
    "headers": {
        "Content-Security-Policy": "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'"
    },
    "websocket_max_message_size": 10 * 2**20,
    # voila gives a page no token, and so refused its word that it is closed; all that can be posted
    # is the end of a kernel, to who knows its name
    "disable_check_xsrf": True,
}
