-- Requests of wrk, filled in from a body template, and its result as one line of JSON; see wrk.py.
-- Arguments: path of the template, and optionally that of a file with API keys, one per line.
-- Conversations use the keys in turn. @N@ becomes the request's number and @C@ the number of its
-- conversation. Both have seven digits, so that the length of the body is constant.

local CONVERSATIONS = 64
local before_number, after_number = {}, {}
local number = 0

local function replace(text, mark, value)
  return (text:gsub(mark, string.format("%07d", value)))
end

local function read_keys(path)
  local keys = {}
  for key in io.lines(path) do keys[#keys + 1] = key end
  return keys
end

function init(args)
  local file = assert(io.open(args[1], "rb"))
  local template = file:read("*a")
  file:close()
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  local keys = args[2] and read_keys(args[2]) or {}
  for conversation = 1, CONVERSATIONS do
    if #keys > 0 then
      wrk.headers["authorization"] = "Bearer " .. keys[conversation % #keys + 1]
    end
    wrk.body = replace(template, "@C@", conversation)
    local request = wrk.format()
    local at = request:find("@N@", 1, true)
    before_number[conversation] = at and request:sub(1, at - 1) or request
    after_number[conversation] = at and request:sub(at + 3) or false
    if at then
      -- Format again with digits in place of the mark, which is four bytes shorter, so that the
      -- head has the right Content-Length.
      wrk.body = replace(wrk.body, "@N@", 0)
      request = wrk.format()
      before_number[conversation] = request:sub(1, -(#after_number[conversation] + 8))
    end
  end
end

function request()
  number = number + 1
  local conversation = number % CONVERSATIONS + 1
  local after = after_number[conversation]
  if not after then return before_number[conversation] end
  return before_number[conversation] .. string.format("%07d", number) .. after
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests":%d,"seconds":%.6f,"error_responses":%d,"socket_errors":%d,' ..
    '"p50_us":%d,"p99_us":%d}\n',
    summary.requests, summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
