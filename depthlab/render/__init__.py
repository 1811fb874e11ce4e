"""How something looks: blocks of a document, Markdown, HTML, figures, sentences, the terminal, and files of a report.

What any report or command shows alike belongs here; what a table says, and the paper's numbers, do not.
"""
