"""What a report says: records and frames in, blocks of a page out; a file a report or a part of one.

Tables, captions and the paper's numbers belong here; statistics, reading runs, and writing files do not.
"""
