"""How things look: documents as Markdown and HTML, figures, sentences, the terminal; publishing.

Not here: numbers, which `analysis` computes and `reports` chooses.
"""
