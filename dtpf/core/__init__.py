"""What imports nothing else of dtpf: records, configs, tensors, storage, bundles."""
