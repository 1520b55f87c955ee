-- Who the control plane is for the runtime: metadata of every call. A token of the token service, else the static bearer,
-- else the development identity (told both ways: current runtimes read the bearer, older ones the header), else nothing.

local M = {}

---@param cfg { minter: macp.plane.Minter|nil, bearer_token: string|nil, use_dev_header: boolean, dev_agent_id: string }
---@return fun(): table<string, string> metadata for one call (yields while the first token is minted)
function M.new(cfg)
  local static = {}
  if cfg.bearer_token and cfg.bearer_token ~= "" then
    static = { authorization = "Bearer " .. cfg.bearer_token }
  elseif cfg.use_dev_header then
    static = { authorization = "Bearer " .. cfg.dev_agent_id, ["x-macp-agent-id"] = cfg.dev_agent_id }
  end
  local minter = cfg.minter
  if minter == nil then return function() return static end end
  return function()
    local token = minter:get()
    return token and { authorization = "Bearer " .. token } or static
  end
end

return M
