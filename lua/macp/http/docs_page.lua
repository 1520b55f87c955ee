-- GET /docs: the API to look at and to try out, in the browser. Every byte comes from this program (web/), under a policy
-- that lets the page load nothing else.

local embed = require("host.embed")

local etag = require("macp.http.steps.etag")

local POLICY = table.concat({
  "default-src 'none'", "script-src 'self'", "style-src 'self' 'unsafe-inline'", -- the page library sets style attributes
  "img-src 'self' data:", "connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
}, "; ")

-- { path, file, content type, encoding }
local FILES = {
  { "/docs", "web/docs/index.html", "text/html; charset=utf-8" },
  { "/docs/start.js", "web/docs/start.js", "text/javascript; charset=utf-8" },
  { "/docs/swagger-ui.css", "web/swagger-ui/swagger-ui.css.gz", "text/css; charset=utf-8", "gzip" },
  { "/docs/swagger-ui-bundle.js", "web/swagger-ui/swagger-ui-bundle.js.gz", "text/javascript; charset=utf-8", "gzip" },
}

local M = {}

local function route_of(file)
  local path, name, content_type, encoding = unpack(file, 1, 4)
  local text = embed.read(name) or error("the program lacks " .. name, 0)
  local tag = etag.of(text)
  return {
    method = "GET", path = path, public = true, rate = "none", quiet = true, hidden = true, etag = true, tag = "docs",
    summary = "The API in a browser", returns = { [200] = { content = { [content_type] = { type = "string" } } } },
    handler = function()
      return 200, text, {
        ["content-type"] = content_type, ["content-encoding"] = encoding, etag = tag,
        ["cache-control"] = "public, max-age=3600", ["content-security-policy"] = POLICY,
        ["x-content-type-options"] = "nosniff", ["referrer-policy"] = "no-referrer",
      }
    end,
  }
end

---The routes of the page.
function M.routes()
  local routes = {}
  for i, file in ipairs(FILES) do routes[i] = route_of(file) end
  return routes
end

return M
