-- A receiver of webhooks on loopback: remembers what comes and answers what the spec says.

local http = require("host.http")

local json = require("macp.core.json")

local eventually = require("spec.support.eventually")

local Receiver = {}
Receiver.__index = Receiver

local M = {}

---@param answer nil|fun(request: table, count: integer): integer|nil, table|nil, string|nil status (nil: the function
--- has answered or hangs by itself), headers, body; may yield
function M.start(answer)
  local self = setmetatable({ requests = {}, answer = answer, busy = 0, most = 0 }, Receiver)
  self.server = assert(http.listen({ host = "127.0.0.1", port = 0 }))
  self.port = self.server:port()
  self.url = "http://127.0.0.1:" .. self.port .. "/hook"
  self.server:serve(function(req, res)
    self.busy = self.busy + 1
    if self.busy > self.most then self.most = self.busy end
    local body = tostring(req.body)
    local request = { headers = req.headers, body = body, path = req.path, value = json.decode(body) }
    self.requests[#self.requests + 1] = request
    local status, headers, text = 200, nil, nil
    if self.answer then status, headers, text = self.answer(request, #self.requests, res) end
    self.busy = self.busy - 1
    if status and not res:closed() then res:send(status, headers or {}, text) end
  end)
  return self
end

---Waits until that many requests came. (yields)
function Receiver:await(count, timeout_ms)
  return eventually(function()
    if #self.requests >= count then return self.requests end
    return nil, #self.requests
  end, timeout_ms or 5000, count .. " requests")
end

---(yields)
function Receiver:close() self.server:close() end

return M
