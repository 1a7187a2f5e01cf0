"""Where the collector's files lie, for who needn't load more than that."""

DISK = "flows"  # on the data disk
RUN = "collector"  # below `paths.run`
STATE = "collector"  # below `paths.state`
STATUS = f"{RUN}/status.json"
CLUSTER = f"{RUN}/cluster.json"
EXPORTERS = f"{RUN}/exporters.json"
