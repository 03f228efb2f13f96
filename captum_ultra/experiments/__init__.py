"""Measurements that anyone can repeat: one module for every published table or figure."""
