"""One run told to people and to programs: terminal text, JSON, JUnit and pcapng.

Every reporter takes a `RunReport` and nothing else; none of them decides anything.
"""
