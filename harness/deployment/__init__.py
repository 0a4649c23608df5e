"""Deploying a topology's nodes by ansible: the inventory, and running playbooks."""
