-- `macp keys hash`: the entry of a key that exists. Exit codes: 0 done, 1 no key there, 3 usage.

local fs = require("host.fs")

local key_entry = require("macp.cmd.shared.key_entry")

local MAX_BYTES = 8192

local M = {
  summary = "Make the entry of a key that exists.",
  help = [[
  macp keys hash ops < key.txt                            the key is read from standard input, up to the end of the line
  macp keys hash acme-ci --tenant acme --scopes write < key.txt
  macp keys hash ops --from /run/secrets/key              or from a file

Prints the entry as `macp keys new` does. The key itself is not printed.]],
  options = {
    key_entry.OPTIONS[1], key_entry.OPTIONS[2], key_entry.OPTIONS[3],
    { name = "from", value = "FILE", default = "/dev/stdin", doc = "Where the key is; standard input without it." },
  },
  arguments = { { name = "NAME", required = true, doc = "Who it is for: 1 to 64 of a-z, A-Z, 0-9, ., _ and -." } },
  config = false,
}

---(yields)
function M.run(opts)
  local text, err = fs.read(opts.from, MAX_BYTES)
  if text == nil then return nil, err end
  local key = text:match("^[^\r\n]*")
  if key == "" then return nil, { code = "EMPTY", message = opts.from .. ": there is no key in the first line" } end
  local object, item = key_entry.make(key, opts)
  if object == nil then return nil, { code = "USAGE", message = item } end
  key_entry.print(object, item)
  return 0
end

return M
