std = "luajit"
max_line_length = 120
max_comment_line_length = 180 -- an annotation of a type cannot be wrapped
files["spec"] = { std = "+busted" }
files["modes"] = { std = "luajit", unused_args = false, max_line_length = 130 } -- (s, p, by, c) always
files["lua/macp/modes/inside"] = { read_globals = { "native" } }
exclude_files = { "lua/macp/modes/stubs", "build*" }
