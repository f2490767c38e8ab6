"""What cells of the notebooks show, by notebook and by the cell's id; an ellipsis stands for anything."""

SHOWN = {
    "explore-a-stream": {
        "setup": "Inspector(2 interceptions, 0 live) application/vnd.jupyter.widget-view+json text/html",
        "stream": "Look at two numbers. ... a smaller model, or for fewer words.",
        "partial": """
            110 events; text_delta 'Look at two numbers.\\n\\n**Time to'
            Event(text_delta ' to') text/html
        """,
        "arguments": """
            '{"city":' {}
            ' "Lisb' {'city': 'Lisb'}
            'o' {'city': 'Lisbo'}
            'n' {'city': 'Lisbon'}
            '", ' {'city': 'Lisbon'}
            '"unit": ' {'city': 'Lisbon'}
            '"celsiu' {'city': 'Lisbon', 'unit': 'celsiu'}
            's"}' {'city': 'Lisbon', 'unit': 'celsius'}
        """,
        "frame": "index time_s gap_s type delta ... text/html",
        "timeline": "<Plot ...> image/png",
        "gaps": """
            recorded: median gap 0.026 s
            here: median gap ... s
            <Plot ...> image/png
        """,
        "end": "",
    },
    "test-double-in-ci": {
        "script": """
            It is nine in the evening.
            gpt-5-mini (Text(text='What time is it in Tokyo?', ...),)
            gpt-5-mini (Text(text='21:00', ...),)
        """,
        "replay": """
            It is nine in the evening.
            no recording answers POST /responses (model 'gpt-5-mini'): the nearest, tokyo.yaml#0,
            differs in $.input: recorded "What time is it in Tokyo?", now "What time is it in Lima?"; ...
        """,
        "tests": "Writing test_clock.py",
        "run": """
            .FF ...
            the fake provider was not asked for:
              'It is still noon.'
            ...
            the script's lines are all said (1) and it was asked once more: add one
            ...
            2 failed, 1 passed in ...
        """,
    },
    "usage-and-cost": {
        "setup": "... text/html",
        "sums": """
            0 without a price
                                              input_tokens  output_tokens  total_tokens
            provider  model
            anthropic claude-sonnet-5                  299            231          2856
            openai    gpt-4o-mini-2024-07-18           258            129           387
                      gpt-5-mini-2025-08-07            138            236          1654
            text/html
        """,
        "cache": """
            model
            claude-sonnet-5           0.443
            gpt-4o-mini-2024-07-18      0.0
            gpt-5-mini-2025-08-07     0.903
            <Plot ...> image/png
        """,
        "join": """
                                       prompt  ttft_s  cost_usd
            0  I am about to sail from Lisbon    0.64  ...
            1  What time is it in Lisbon and     0.48  ...
            2  My replies feel slow. How do I    0.87  ...
            text/html
        """,
        "tools": """
                        zone
            0  Europe/Lisbon
            1     Asia/Tokyo
            text/html
        """,
        "plot": "<Plot ...> image/png",
        "metrics": """
                 model  output_tokens
            gpt-5-mini              3
            tokens_total{...model="gpt-5-mini",provider="openai",type="input"} 4.0
            tokens_total{...model="gpt-5-mini",provider="openai",type="output"} 3.0
        """,
        "keep": "True",
    },
    "replay-with-faults": {
        "setup": "Inspector(7 interceptions, 0 live) application/vnd.jupyter.widget-view+json text/html",
        "program": "'whole after 73 pieces'",
        "refused": """
            whole after 73 pieces
               status                          fault
            0     200                            NaN
            1     529  status(529, retry_after=0.01)
            2     429  status(429, retry_after=0.01)
            3     200                            NaN
            text/html
        """,
        "error": "APIError after 10 pieces: Overloaded",
        "cut": """
            whole after 20 pieces
            truncated
            AssistantMessage('gpt-5-mini-2025-08-07', error, error 'truncated': 'Look at two numbers...)
            text/html
        """,
        "silence": "APITimeoutError after 20 pieces: Request timed out.",
        "table": """
                          end                                             fault  events
            0       completed                                               NaN     117
            1       completed                                               NaN     117
            2  upstream_error  error_event('overloaded_error', after_events=50)      51
            3       truncated                                truncate(event=60)      61
            4     client_gone                 stall(after_events=60, for_s=inf)      60
            text/html
        """,
        "end": "",
    },
    "compare-providers": {
        "setup": "Inspector(18 interceptions, 0 live) application/vnd.jupyter.widget-view+json text/html",
        "ask": """
            anthropic: Air scatters blue light most.
            openai: Blue light is scattered by the air more than red light is.
            google: Rayleigh scattering favours short wavelengths, and blue is short.
        """,
        "message": "AssistantMessage('claude-sonnet-5', stop, ...: 'Air scatters...') text/html",
        "requests": """
            /v1/chat/completions
                {..."text":"Why is the sky blue?"...}
            /v1/messages
                {"model":"claude-sonnet-5",..."text":"Why is the sky blue?"...}
            /v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse
                {"contents":[{"role":"user","parts":[{"text":"Why is the sky blue?"}]}]}
        """,
        "repeat": """
            model             end
            claude-sonnet-5   completed    6
            gemini-2.5-flash  completed    6
            gpt-5-mini        completed    6
            ...
        """,
        "table": """
                              ttft_s  duration_s  output_tokens  tokens_per_s  cost_usd
            model
            claude-sonnet-5   ... 8.0 ...
            gemini-2.5-flash  ... 9.0 ...
            gpt-5-mini        ... 12.0 ...
            text/html
        """,
        "plot": "<Plot ...> image/png",
        "end": "",
    },
    "from-notebook-to-gateway": {
        "setup": """
            Noon.
            {"model":"gpt-5-mini","input":"What time is it? Answer in one word."}
        """,
        "serve": "<Server http://127.0.0.1:... running> text/html",
        "program": "Noon.",
        "route": """
            Noon.
            https://api.openai.com/v1/chat/completions
        """,
        "calls": """
                frontend            client asked_model provider        end
            0  transport     OpenAI/Python  gpt-5-mini   openai  completed
            1     server     OpenAI/Python  gpt-5-mini   openai  completed
            2     server  Anthropic/Python  gpt-5-mini   openai  completed
            text/html
        """,
        "file": "Writing gateway.yaml",
        "gateway": "Noon.",
        "end": "<Server http://127.0.0.1:... stopped> text/html",
    },
    "tools-in-the-bridge": {
        "ask": """
            There are 12 lamps.
            44 tokens in 3 rounds
        """,
        "specs": """[ { "type": "function", "function": { "name": "stock", ... "required": [ "article" ] } } } ]""",
        "calls": """
            ['Error: the arguments do not fit: Object missing required field `article`', '12']
               round   name           arguments  injected
            0      0  stock     {"name":"lamp"}      True
            1      1  stock  {"article":"lamp"}      True
            text/html
        """,
        "round": """
            user | How many lamps are there?
            assistant | {'name': 'stock', 'arguments': '{"name":"lamp"}'}
            tool | Error: the arguments do not fit: Object missing required field `article`
            assistant | {'name': 'stock', 'arguments': '{"article":"lamp"}'}
            tool | 12
        """,
        "gate": "Error: the call was refused: the warehouse in Paris is closed",
        "end": "",
    },
    "mcp-tools": {
        "server": "Writing warehouse.py",
        "bridge": "['bmcp_warehouse_stock', 'bmcp_warehouse_take']",
        "ask": "Two lamps are yours. There is no sofa.",
        "calls": """
            12
            2 taken, 10 left
            Error executing tool take: there is no sofa
               round                  name                     arguments  injected
            0      0  bmcp_warehouse_stock            {"article":"lamp"}      True
            1      1   bmcp_warehouse_take  {"article":"lamp","count":2}      True
            2      2   bmcp_warehouse_take  {"article":"sofa","count":1}      True
            text/html
        """,
        "rounds": """
            user text | Two lamps and a sofa, please.
            assistant tool_use | {'article': 'lamp'}
            user tool_result | [{'type': 'text', 'text': '12'}]
            assistant tool_use | {'article': 'lamp', 'count': 2}
            user tool_result | [{'type': 'text', 'text': '2 taken, 10 left'}]
            assistant tool_use | {'article': 'sofa', 'count': 1}
            user tool_result | [{'type': 'text', 'text': 'Error executing tool take: there is no sofa'}]
        """,
        "end": "",
    },
}
