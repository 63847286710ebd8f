"""Parts for invented pictures, for a plugin's `fabricate`: objects and light, streets, aerial photographs on two dates.

Nothing here resembles real data. The parts draw with numpy and scipy: a drawing library's next version would change
bytes that the records of invented runs refer to. The engine names the folder of invented data by a hash of this source.
"""
