"""The recogniser as a service: what answers others over the network."""
