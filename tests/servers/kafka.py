"""A Kafka cluster of one broker for the tests: librdkafka's own mock cluster, which keeps records in memory.

    python tests/servers/kafka.py PORT_FILE

Writes its port into the file when it listens, and runs until it is killed. Topics make themselves.
"""

import sys
import threading
from pathlib import Path

import confluent_kafka

# The address is not used, but must be there; with these two the client makes a cluster of its own.
cluster = confluent_kafka.Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 1})
address = cluster.list_topics(timeout=30).brokers.popitem()[1]
path = Path(sys.argv[1])
path.with_suffix(".new").write_text(str(address.port))
path.with_suffix(".new").replace(path)
threading.Event().wait()
