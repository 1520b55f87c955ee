-- Who the control plane is for the runtime: metadata of every call. A static bearer, else the development identity
-- (told both ways: current runtimes read the bearer, older ones the header), else nothing.

local M = {}

---@param cfg { bearer_token: string|nil, use_dev_header: boolean, dev_agent_id: string }
---@return fun(): table<string, string> metadata for one call
function M.new(cfg)
  local metadata = {}
  if cfg.bearer_token and cfg.bearer_token ~= "" then
    metadata = { authorization = "Bearer " .. cfg.bearer_token }
  elseif cfg.use_dev_header then
    metadata = { authorization = "Bearer " .. cfg.dev_agent_id, ["x-macp-agent-id"] = cfg.dev_agent_id }
  end
  return function() return metadata end
end

return M
