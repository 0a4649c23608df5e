"""Building of what virtual machines boot from: the appliance image and the product disk.

Both are cached by a hash of everything they are made from, so a second run builds nothing.  The modules, in
the order a build runs through them:

- `cache`    entries keyed by a hash, built once, published atomically
- `recipe`   `vm-images/recipe.yaml` as a checked value, and the key of the image
- `sources`  this machine's own apt sources, reduced to Debian's
- `build`    mmdebstrap, ansible in a chroot, trimming, `mke2fs -d`
- `kernel`   uncompressed kernel and busybox initrd
- `product`  Spanreel itself and its locked dependencies, on a small read-only disk
"""
