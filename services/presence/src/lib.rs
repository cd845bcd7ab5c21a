//! Who is online where and as what, and who may see it.
