"""What the operator decided about the edge, as far as it changes what is compiled: a branch of the settings tree."""

from portway.settings import Edge as Edge
