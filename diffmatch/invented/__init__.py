"""Parts for invented pictures, for a plugin's `fabricate`: objects and light, streets, aerial photographs on two dates.

Nothing here reads or resembles real data. The engine hashes this source text into the name of the folder that invented
data are kept in.
"""
