from tests.bench import scale_flows
from tests.bench.report import show

show(scale_flows.comparisons())
