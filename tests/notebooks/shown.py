"""What cells of the notebooks show, by notebook and by the cell's id; an ellipsis stands for anything."""

SHOWN = {
    "explore-a-stream": {
        "setup": "Bridge(Replay(5 recordings, mode='none', speed=2), ...) text/html",
        "stream": "Look at two numbers. ... a smaller model, or for fewer words.",
        "partial": """
            110 events; text_delta 'Look at two numbers.\\n\\n**Time to'
            Event(type='text_delta', delta=BlockDelta(index=1, text=' to')) text/html
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
}
