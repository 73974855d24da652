"""Labels over time as files of other programs: subtitles, ELAN, Praat, BIDS and XDF."""
