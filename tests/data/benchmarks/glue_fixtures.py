"""Invented examples of every GLUE task, 20 each, written in the layout of GLUE's own files."""

import gzip
from collections.abc import Iterable
from pathlib import Path

COLA = """
1|The baker sold three loaves.
1|Nobody expected the parade to end.
1|She wondered who had opened the gate.
1|The harder it rained, the louder he sang.
1|The letter that he posted never arrived.
1|We were told to wait outside.
1|Ann gave her brother a kite.
1|It seems that the lake has frozen.
1|Which of the lamps did you break?
1|The cat has been sleeping all morning.
0|The baker sold three loaf.
0|Nobody expected the parade ending to.
0|She wondered who had opened gate the.
0|The harder rained it, the louder sang he.
0|The letter that he posted it never arrived.
0|We were told waiting outside.
0|Ann gave to her brother kite.
0|It seems the lake to has frozen.
0|Which of lamp the did you break?
0|The cat have been sleep all morning.
"""
SST2 = """
1|a warm and generous little film
1|the leads are a delight to watch
1|clever from its first shot to its last
1|you will laugh , then laugh again
1|a triumph of patient storytelling
1|gorgeous to look at and lovely to hear
1|" wonderful " is too small a word
1|sharp , moving and very funny
1|the best surprise of the summer
1|a tender portrait of two sisters
0|a cold and tedious little film
0|the leads are a chore to watch
0|dull from its first shot to its last
0|you will yawn , then yawn again
0|a disaster of careless storytelling
0|ugly to look at and painful to hear
0|" dreadful " is too kind a word
0|blunt , lifeless and never funny
0|the worst surprise of the summer
0|a clumsy portrait of two sisters
"""
MRPC = """
1|The mayor opened the new bridge on Monday.|On Monday the new bridge was opened by the mayor.
1|Shares of Corvale rose 4 percent.|Corvale's stock gained four percent.
1|"We are pleased," said Ms Holt.|Ms Holt said they were "pleased.
1|The ferry sank in heavy seas off Tarn.|Off Tarn, heavy seas sank the ferry.
1|Two climbers were rescued late on Friday.|Rescuers saved two climbers Friday night.
1|The firm will cut 300 jobs by June.|By June 300 jobs will go at the firm.
1|Police arrested a man over the theft.|A man was arrested by police for the theft.
1|The museum closes for repairs next week.|Repairs will close the museum next week.
1|The vote was put off until autumn.|The vote has been delayed until the autumn.
1|Doctors said the patient was stable.|The patient is stable, doctors said.
0|The mayor opened the new bridge on Monday.|The mayor fell ill on Tuesday.
0|Shares of Corvale rose 4 percent.|Corvale named a new chief executive.
0|The storm hit the coast at dawn.|Schools along the coast will reopen.
0|The ferry sank in heavy seas off Tarn.|A new ferry to Tarn was ordered in May.
0|Two climbers were rescued late on Friday.|The mountain draws two thousand climbers a year.
0|The firm will cut 300 jobs by June.|The firm was founded in June 1931.
0|Police arrested a man over the theft.|The stolen painting is worth a million.
0|The museum closes for repairs next week.|The museum shows Dutch masters.
0|The vote was put off until autumn.|Turnout was the lowest in years.
0|Doctors said the patient was stable.|The hospital lacks doctors.
"""
STSB = """
5.000|A boy is flying a kite.|A boy flies a kite.
4.800|A woman slices a pear.|A woman is cutting a pear.
4.600|Two dogs run on the sand.|Two dogs are running along a beach.
4.400|A man repairs a bicycle.|A man is fixing his bike.
4.200|The train left the station.|A train has departed.
4.000|A girl paints a fence.|A child is painting a wooden fence.
3.750|A band plays in the park.|Musicians perform outdoors.
3.500|A cat sleeps on a sofa.|A cat rests on a chair.
3.250|Snow covers the village.|A village lies under ice.
3.000|A man drinks tea.|A man drinks coffee.
2.750|A woman reads a book.|A woman writes a book.
2.500|The boat crosses the bay.|The boat is tied up in the bay.
2.200|A chef tastes the soup.|A chef buys vegetables.
2.000|A boy kicks a ball.|A boy throws a stone.
1.600|The river is deep.|The lake is wide.
1.200|A horse jumps a hedge.|A dog digs by a hedge.
0.800|She plays the violin.|She phones her mother.
0.500|A plane lands at night.|A man bakes bread.
0.250|The shop sells hats.|An owl sits in a tree.
0.000|Rain is forecast.|A judge reads the verdict.
"""
QQP = """
1|How do I learn to swim?|What is the best way to learn swimming?
1|Why is the sea salty?|What makes sea water salty?
1|How can I fall asleep faster?|What helps to get to sleep quickly?
1|What is a black hole?|What are black holes?
1|How do bees make honey?|How is honey made by bees?
1|Which laptop should I buy for school?|What is a good laptop for a student?
1|How do I boil an egg?|What is the way to boil eggs?
1|Who invented the compass?|Who was the inventor of the compass?
1|How can I save money?|What are ways of saving money?
1|"What does ""amber"" mean?"|"What is the meaning of ""amber""?"
0|How do I learn to swim?|Where can I buy a swimsuit?
0|Why is the sea salty?|Why is the sky blue?
0|How can I fall asleep faster?|Why do we dream?
0|What is a black hole?|How old is the sun?
0|How do bees make honey?|Do bees sleep in winter?
0|Which laptop should I buy for school?|How do I clean a laptop screen?
0|How do I boil an egg?|How long do hens live?
0|Who invented the compass?|How does a compass work?
0|How can I save money?|How is money printed?
0|"What does ""amber"" mean?"|Where is amber found?
"""
MNLI = """
entailment|The choir sang until midnight.|There was singing in the evening.
entailment|All of the windows were shut.|No window was open.
entailment|He sold his only car.|He has no car now.
entailment|uh we uh moved to the coast last year|We live somewhere else than two years ago.
entailment|The committee rejected both plans.|Neither plan was accepted.
entailment|Her brother is a dentist.|She has a brother.
entailment|The soup was too hot to eat.|They could not eat the soup yet.
neutral|The choir sang until midnight.|The choir was paid well.
neutral|All of the windows were shut.|It was cold outside.
neutral|He sold his only car.|He wanted to buy a boat.
neutral|uh we uh moved to the coast last year|The house has a view of the sea.
neutral|The committee rejected both plans.|The plans cost too much.
neutral|Her brother is a dentist.|Her brother works in the city.
neutral|The soup was too hot to eat.|It was tomato soup.
contradiction|The choir sang until midnight.|Nobody made a sound that night.
contradiction|All of the windows were shut.|One window stood open.
contradiction|He sold his only car.|He still drives his car to work.
contradiction|uh we uh moved to the coast last year|We have never moved.
contradiction|The committee rejected both plans.|One of the plans was approved.
contradiction|Her brother is a dentist.|She is an only child.
"""
QNLI = """
entailment|When was the mill built?|The mill was built in 1804 by two brothers.
entailment|Who wrote the town's anthem?|Its anthem was written by Clara Voss.
entailment|How high is the tower?|The tower rises to 61 metres.
entailment|What do the monks sell?|The monks live off the cheese they sell.
entailment|Where does the river begin?|The river begins in a bog near Ulm Hill.
entailment|What colour is the flag?|The flag is green with a white star.
entailment|Why did the mine close?|The mine closed because it was flooded.
entailment|How many islands are there?|The group has seventeen islands.
entailment|Which bird is on the coin?|The coin shows a heron.
entailment|What language is spoken there?|Most people there speak Frisian.
not_entailment|When was the mill built?|Flour is still ground there on Sundays.
not_entailment|Who wrote the town's anthem?|The town has a famous brass band.
not_entailment|How high is the tower?|Visitors may climb the tower in summer.
not_entailment|What do the monks sell?|The monastery has nine monks.
not_entailment|Where does the river begin?|The river floods every spring.
not_entailment|What colour is the flag?|The flag was adopted in 1920.
not_entailment|Why did the mine close?|The mine employed 400 men.
not_entailment|How many islands are there?|Only the largest has a harbour.
not_entailment|Which bird is on the coin?|The coin is made of nickel.
not_entailment|What language is spoken there?|The school was founded by settlers.
"""
RTE = """
entailment|Mr Arden, who founded Lumo in 1990, died on Sunday.|Lumo was founded by Mr Arden.
entailment|The drought ruined most of the maize harvest.|The maize harvest was poor.
entailment|Oslo's mayor met the delegates on Tuesday.|The delegates met a mayor.
entailment|The vaccine protects calves against the fever.|Calves can be protected against the fever.
entailment|A fire destroyed the old theatre.|The old theatre burnt.
entailment|The bank bought its rival for two billion.|The rival was bought by the bank.
entailment|Nine sailors survived the wreck.|There were survivors.
entailment|The painter left Spain for Peru in 1951.|The painter has been in Spain.
entailment|Sales of bicycles doubled last year.|More bicycles were sold.
entailment|The court freed both brothers.|The brothers were released.
not_entailment|Mr Arden, who founded Lumo in 1990, died on Sunday.|Lumo was sold on Sunday.
not_entailment|The drought ruined most of the maize harvest.|The wheat harvest was good.
not_entailment|Oslo's mayor met the delegates on Tuesday.|The delegates live in Oslo.
not_entailment|The vaccine protects calves against the fever.|The fever kills horses.
not_entailment|A fire destroyed the old theatre.|The fire was started by an actor.
not_entailment|The bank bought its rival for two billion.|The rival bought the bank.
not_entailment|Nine sailors survived the wreck.|The captain drowned.
not_entailment|The painter left Spain for Peru in 1951.|The painter was born in Peru.
not_entailment|Sales of bicycles doubled last year.|Sales of cars fell.
not_entailment|The court freed both brothers.|The brothers are guilty.
"""
WNLI = """
1|The jar did not fit in the box because it was too big.|The jar was too big.
0|The jar did not fit in the box because it was too big.|The box was too big.
1|Mia thanked Rosa because she had helped.|Rosa had helped.
0|Mia thanked Rosa because she had helped.|Mia had helped.
1|The hound chased the hare until it was caught.|The hare was caught.
0|The hound chased the hare until it was caught.|The hound was caught.
1|Paul lent Max the tent, and he slept in it.|Max slept in the tent.
0|Paul lent Max the tent, and he slept in it.|Paul slept in the tent.
1|The nail went through the plank since it was soft.|The plank was soft.
0|The nail went through the plank since it was soft.|The nail was soft.
1|The teacher praised the pupil when he won.|The pupil won.
0|The teacher praised the pupil when he won.|The teacher won.
1|The rope held the boat, for it was strong.|The rope was strong.
0|The rope held the boat, for it was strong.|The boat was strong.
1|Ida beat Jo because she had trained.|Ida had trained.
0|Ida beat Jo because she had trained.|Jo had trained.
1|The cup fell off the shelf, and it broke.|The cup broke.
0|The cup fell off the shelf, and it broke.|The shelf broke.
1|The guide led the tourist, who was lost.|The tourist was lost.
0|The guide led the tourist, who was lost.|The guide was lost.
"""

ROWS = {
    name: [line.split("|") for line in text.strip().split("\n")]
    for name, text in {
        "cola": COLA,
        "sst2": SST2,
        "mrpc": MRPC,
        "stsb": STSB,
        "qqp": QQP,
        "mnli": MNLI,
        "qnli": QNLI,
        "rte": RTE,
        "wnli": WNLI,
    }.items()
}
"""20 rows of each task: label and the one or two texts."""
MNLI_HEADER = [
    *("index", "promptID", "pairID", "genre", "sentence1_binary_parse", "sentence2_binary_parse"),
    *("sentence1_parse", "sentence2_parse", "sentence1", "sentence2"),
]


def write_tsv(file: Path, rows: Iterable[Iterable[object]], ends: str = "\n", bom: bool = False) -> None:
    text = "".join("\t".join(map(str, row)) + ends for row in rows)
    file.parent.mkdir(parents=True, exist_ok=True)
    data = text.encode("utf-8-sig" if bom else "utf-8")
    file.write_bytes(gzip.compress(data) if file.suffix == ".gz" else data)


def write_glue(root: Path) -> Path:
    """All tasks into a folder. Train and dev are the same 20 rows; test has them in reverse, without labels.

    MNLI's mismatched splits and the diagnostic set have only the first five of those.
    """
    for split in ("train", "dev"):
        write_tsv(root / f"CoLA/{split}.tsv", [["xx01", y, "" if y == "1" else "*", a] for y, a in ROWS["cola"]])
        write_tsv(root / f"SST-2/{split}.tsv", [["sentence", "label"], *([f"{a} ", y] for y, a in ROWS["sst2"])])
        write_tsv(
            root / f"MRPC/{split}.tsv",
            [
                ["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"],
                *([y, 100 + i, 200 + i, a, b] for i, (y, a, b) in enumerate(ROWS["mrpc"])),
            ],
            ends="\r\n",
            bom=True,
        )
        write_tsv(
            root / f"QQP/{split}.tsv",
            [
                ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"],
                *([i, 2 * i, 2 * i + 1, a, b, y] for i, (y, a, b) in enumerate(ROWS["qqp"])),
            ],
        )
        _indexed(root / f"STS-B/{split}.tsv", [*_STSB_HEADER, "score"], [_stsb(a, b, y) for y, a, b in ROWS["stsb"]])
        for task, folder, header in _PAIRS:
            _indexed(root / folder / f"{split}.tsv", [*header, "label"], [[a, b, y] for y, a, b in ROWS[task]])
    for split, votes in (("train", 1), ("dev_matched", 5), ("dev_mismatched", 5)):
        _indexed(
            root / f"MNLI/{split}.tsv",
            [*MNLI_HEADER, *(f"label{vote + 1}" for vote in range(votes)), "gold_label"],
            [_mnli(a, b, *[y] * votes, y) for y, a, b in ROWS["mnli"][: 5 if split == "dev_mismatched" else 20]],
        )

    _indexed(root / "CoLA/test.tsv", ["index", "sentence"], [[a] for _, a in ROWS["cola"][::-1]])
    _indexed(root / "SST-2/test.tsv", ["index", "sentence"], [[a] for _, a in ROWS["sst2"][::-1]])
    _indexed(
        root / "MRPC/test.tsv",
        ["index", "#1 ID", "#2 ID", "#1 String", "#2 String"],
        [[1, 2, a, b] for _, a, b in ROWS["mrpc"][::-1]],
    )
    _indexed(root / "STS-B/test.tsv", _STSB_HEADER, [_stsb(a, b) for _, a, b in ROWS["stsb"][::-1]])
    _indexed(root / "QQP/test.tsv", ["id", "question1", "question2"], [[a, b] for _, a, b in ROWS["qqp"][::-1]])
    for task, folder, header in _PAIRS:
        _indexed(root / folder / "test.tsv", header, [[a, b] for _, a, b in ROWS[task][::-1]])
    reverse = ROWS["mnli"][::-1]
    _indexed(root / "MNLI/test_matched.tsv", MNLI_HEADER, [_mnli(a, b) for _, a, b in reverse])
    _indexed(root / "MNLI/test_mismatched.tsv", MNLI_HEADER, [_mnli(a, b) for _, a, b in reverse[:5]])
    _indexed(
        root / "diagnostic/diagnostic.tsv", ["index", "sentence1", "sentence2"], [[a, b] for _, a, b in reverse[:5]]
    )
    return root


_STSB_HEADER = [
    *("index", "genre", "filename", "year", "old_index", "source1", "source2", "sentence1", "sentence2"),
]
_PAIRS = (
    ("qnli", "QNLI", ["index", "question", "sentence"]),
    ("rte", "RTE", ["index", "sentence1", "sentence2"]),
    ("wnli", "WNLI", ["index", "sentence1", "sentence2"]),
)


def _indexed(file: Path, header: list[str], rows: list[list[object]]) -> None:
    write_tsv(file, [header, *([index, *row] for index, row in enumerate(rows))])


def _stsb(*rest: str) -> list[str]:
    return ["main-captions", "made-up", "2024", "0001", "none", "none", *rest]


def _mnli(first: str, second: str, *rest: str) -> list[str]:
    return [
        "1",
        "1e",
        "fiction",
        f"( {first} )",
        f"( {second} )",
        f"(S {first})",
        f"(S {second})",
        first,
        second,
        *rest,
    ]
