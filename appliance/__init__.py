"""The appliance: what runs on the nodes of a Spanreel cluster."""
