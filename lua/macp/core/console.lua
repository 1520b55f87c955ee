-- What commands print. Colour only on terminals and never when NO_COLOR is set.

local sys = require("host.sys")

local cli = require("macp.core.cli")

local STDOUT, STDERR = 1, 2
local PROGRESS_MS = 100
local ERASE_LINE = "\r\27[K"

local M = {}

local function coloured(fd)
  return sys.is_tty(fd) and (sys.env("NO_COLOR") or "") == "" and sys.env("TERM") ~= "dumb"
end

---Writes one line to standard output.
function M.print(text)
  sys.write(STDOUT, (text or "") .. "\n")
end

---Writes one line to standard error.
function M.warn(text)
  sys.write(STDERR, text .. "\n")
end

---How far long work has come, as one line of a terminal that is written over; nothing is written elsewhere.
---@return { show: fun(text: string), done: fun() } show at most every tenth of a second; done takes the line away
function M.progress()
  local is_terminal, shown_at = sys.is_tty(STDERR) and sys.env("TERM") ~= "dumb", nil
  return {
    show = function(text)
      local now = sys.mono_ms()
      if not is_terminal or (shown_at and now - shown_at < PROGRESS_MS) then return end
      shown_at = now
      sys.write(STDERR, ERASE_LINE .. text)
    end,
    done = function()
      if shown_at then sys.write(STDERR, ERASE_LINE) end
    end,
  }
end

---Styles for standard output (see cli.style).
function M.style()
  return cli.style(coloured(STDOUT))
end

---Styles for standard error.
function M.error_style()
  return cli.style(coloured(STDERR))
end

---true when log lines should be readable rather than JSON.
function M.logs_to_terminal()
  return sys.is_tty(STDERR)
end

---true when log lines may be coloured.
function M.logs_coloured()
  return coloured(STDERR)
end

return M
