"""Pictures to vectors: decoding, fitting, model weights, and the encoder.

`embed.images`, `embed.photo` and `embed.presets` need Pillow and numpy only; torch and timm are imported when
an encoder is opened, so that commands that never encode start fast.
"""
