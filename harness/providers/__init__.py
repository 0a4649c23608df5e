"""What nodes are made of: one provider per kind, all behind `base.Provider`."""
