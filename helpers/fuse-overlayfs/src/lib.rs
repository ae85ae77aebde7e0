//! Drive fuse-overlayfs.
