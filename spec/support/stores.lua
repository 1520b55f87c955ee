-- The stores that keep a journal in a directory of this machine, for specs that run against each of them.

local journal = require("host.journal")

local M = {}

local KNOWN = {
  { name = "file", env = { MACP_STORAGE_BACKEND = "file" }, place = "/journal", lock = "/LOCK", locks = { "/LOCK" } },
  {
    name = "rocksdb", env = { MACP_STORAGE_BACKEND = "rocksdb" }, place = "/rocksdb", lock = "/OWNER",
    locks = { "/OWNER", "/LOCK" },
  },
}

---Those of this build: name, env (settings that choose it), place (below the data directory), lock (the file that names
---the holder, below place), locks (every file that keeps a second process out).
function M.here()
  local is_built, found = {}, {}
  for _, name in ipairs(journal.backends()) do is_built[name] = true end
  for _, store in ipairs(KNOWN) do
    if is_built[store.name] then found[#found + 1] = store end
  end
  return found
end

---Names of stores that this build lacks: their specs are skipped, and a spec says so.
function M.absent()
  local missing = {}
  local here = {}
  for _, store in ipairs(M.here()) do here[store.name] = true end
  for _, store in ipairs(KNOWN) do
    if not here[store.name] then missing[#missing + 1] = store.name end
  end
  return missing
end

return M
