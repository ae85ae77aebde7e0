//! Drive slirp4netns.
