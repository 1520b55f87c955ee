-- `macp keys check`: what a start would say about files of keys. Exit codes: 0 all fine, 1 one is not, 3 usage.

local fs = require("host.fs")
local sys = require("host.sys")

local console = require("macp.core.console")
local time = require("macp.core.time")
local key_entries = require("macp.auth.key_entries")

local M = {
  summary = "Tell what is wrong with files of keys.",
  help = [[
  macp keys check keys.json                      a line per key: name, tenant, scopes, expiry

Exit code 0 when every file could be AUTH_API_KEYS_FILE, 1 when one could not.]],
  arguments = { { name = "FILE", repeated = true, required = true, doc = "Files as AUTH_API_KEYS_FILE names them." } },
  config = false,
}

local function scopes_of(entry)
  if entry.scopes == nil then return "everything" end
  local list = {}
  for scope in pairs(entry.scopes) do list[#list + 1] = scope end
  table.sort(list)
  return #list > 0 and table.concat(list, ",") or "nothing"
end

local function expiry_of(entry)
  if entry.expires_ms == nil then return "never expires" end
  local verb = entry.expires_ms <= sys.now_ms() and "expired " or "expires "
  return verb .. time.iso(entry.expires_ms)
end

-- (yields)
local function check(path)
  local text, err = fs.read(path, key_entries.MAX_BYTES)
  if text == nil then return nil, path .. ": " .. err.message end
  local entries, reason = key_entries.of_file(text, path)
  if entries then entries, reason = key_entries.join(entries) end
  return entries, reason
end

---(yields)
function M.run(opts)
  local code = 0
  for _, path in ipairs(opts.args) do
    local entries, reason = check(path)
    if entries == nil then
      console.warn(reason)
      code = 1
    end
    for _, entry in ipairs(entries or {}) do
      console.print(table.concat({ entry.name, entry.tenant, scopes_of(entry), expiry_of(entry) }, "  "))
    end
  end
  return code
end

return M
