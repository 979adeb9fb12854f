"""Networks: base encoders with real weights, head families, and the scorer that joins them.

>>> from hydrajax.nn import encode
>>> base = encode.load_base("minilm")
>>> encode.encode_pairs(base, [("a query", "a record")]).shape
(1, 384)
"""
