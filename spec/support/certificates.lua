-- Certificates for specs of TLS.

local child = require("host.child")

local M = {}

---Makes what certs.sh describes in a directory. (yields)
function M.make(dir)
  local process = assert(child.spawn({ file = "/bin/sh", args = { "spec/support/certs.sh", dir } }))
  local code = process:wait().code
  process:close()
  assert(code == 0, "spec/support/certs.sh ended with " .. tostring(code))
end

return M
