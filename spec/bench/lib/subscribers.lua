-- SSE subscribers of one run, over raw sockets: cheap enough that two hundred of them fit beside the server.

local net = require("host.net")
local task = require("host.task")

local Subscribers = {}
Subscribers.__index = Subscribers

local M = {}

-- Calls on_frame(text) for every piece that arrives until the connection ends. (yields)
local function read_loop(self, sock, on_piece)
  while true do
    local piece = sock:read(65536)
    if not piece then break end
    on_piece(piece)
  end
  self.open = self.open - 1
end

---Opens `count` streams of a run and reads them. (yields)
---@param opts { port: integer, run_id: string, count: integer, on_piece: fun(piece: string, index: integer), query: string|nil }
function M.open(opts)
  local self = setmetatable({ socks = {}, readers = {}, open = opts.count }, Subscribers)
  for i = 1, opts.count do
    local sock = assert(net.connect("127.0.0.1", opts.port))
    assert(sock:write("GET /runs/" .. opts.run_id .. "/stream" .. (opts.query or "?includeSnapshot=false")
      .. " HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    self.socks[i] = sock
    self.readers[i] = task.spawn(read_loop, self, sock, function(piece) opts.on_piece(piece, i) end)
  end
  return self
end

---Closes every connection. (yields)
function Subscribers:close()
  for i, sock in ipairs(self.socks) do
    self.readers[i]:cancel()
    self.readers[i]:join()
    sock:close()
  end
end

return M
