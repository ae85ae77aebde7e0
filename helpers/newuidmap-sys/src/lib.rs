//! Subordinate id ranges and the newuidmap/newgidmap programs.
